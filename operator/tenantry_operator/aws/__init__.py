"""The little of AWS that the operator speaks: credentials as EKS gives them to pods, signed requests, one SQS queue."""
