"""What the scripts' figures share."""


def pyplot():
    """matplotlib's, without a window; None where it is not installed, and then that is said."""
    try:
        import matplotlib
    except ImportError:
        print("no figures: no matplotlib")
        return None
    matplotlib.use("Agg")
    import matplotlib.pyplot
    return matplotlib.pyplot
