"""Linear probes of a backbone's frozen features on real recordings, compared with baselines without a network.

The same as ``audionet probe``.
"""

if __name__ == "__main__":
    from audionet.cli.main import run_command

    run_command("probe")
