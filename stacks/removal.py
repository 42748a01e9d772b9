from aws_cdk import RemovalPolicy


def removal_policy(*, keep: bool) -> RemovalPolicy:
    """Return what becomes of data after `cdk destroy`.

    What is kept still goes when the first deployment fails: its name would block the next one.
    """
    return RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE if keep else RemovalPolicy.DESTROY
