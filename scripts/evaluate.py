"""Evaluate a model on recordings that it was not trained on, and write a report: tf_files/report/report.html.

The same as ``audionet evaluate``.
"""

if __name__ == "__main__":
    from audionet.cli.main import run_command

    run_command("evaluate")
