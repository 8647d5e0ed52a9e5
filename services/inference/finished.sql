-- result: A request's terminal result, of this run or a later one.
SELECT status, body FROM responses WHERE id = $1 AND replay >= $2
