"""What surrounds the services: the local stack, migrations, the policy file."""
