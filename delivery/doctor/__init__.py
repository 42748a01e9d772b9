"""`make doctor`: what would fail, found before it does.

before.py looks at the AWS account and at GitHub before a deployment. A check is a name and a function that yields one
sentence for each problem, with what to do; __main__.py runs them and knows nothing of what they look at. Checks of a
cluster that is there belong into a module next to before.py, with a tuple of its own.
"""
