"""How fast the pipeline is, beside what people build such pipelines with: ``make bench-pipeline``."""
