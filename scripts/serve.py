"""Serve a model over HTTP, with a page to try it: http://127.0.0.1:8000.

The same as ``audionet serve``.
"""

if __name__ == "__main__":
    from audionet.cli.main import run_command

    run_command("serve")
