"""The naive app as the predecessor deployed it: on every address, with a page at `/` that its readiness probe asks."""

from loadtest.bench.naive import app


@app.get("/")
def page() -> str:
    """Say that the server answers."""
    return "ready"


if __name__ == "__main__":
    app.run("0.0.0.0", 5000)  # noqa: S104
