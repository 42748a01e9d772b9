"""What `cdk deploy` builds on AWS, one capability a module."""
