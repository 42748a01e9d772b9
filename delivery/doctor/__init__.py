"""`make doctor`: what would fail, found before it does.

before.py looks at the AWS account and at GitHub before a deployment, after.py at the cluster and the load balancer once
there is one. A check is a name and a function that yields one sentence for each problem, with what to do; __main__.py
runs them and knows nothing of what they look at.
"""
