from aws_cdk import RemovalPolicy


def removal_policy(*, keep: bool) -> RemovalPolicy:
    """Return what happens to data on `cdk destroy`.

    Data that is kept is still deleted if the first deployment fails: its name would block the next one.
    """
    return RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE if keep else RemovalPolicy.DESTROY
