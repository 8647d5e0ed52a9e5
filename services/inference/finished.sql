-- result: A request's terminal result.
SELECT status, body FROM responses WHERE id = $1 AND status <> 'rejected'
