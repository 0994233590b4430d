"""The bar on the terminal that says how far a stretch of work is."""

from time import monotonic

from tqdm import tqdm


def progress(total: int, name: str, unit: str, done: int = 0, shown: bool = True, passing: bool = False) -> tqdm:
    """A bar to `update` and `close`; its speed and remaining time come from a clock that never jumps, unlike tqdm's own.

    One that is `passing` shows only where the work takes longer than a second, and goes when that is done.
    """
    bar = tqdm(total=total, initial=done, desc=name, unit=unit, disable=not shown, dynamic_ncols=True, mininterval=1.0,
               miniters=1, delay=1.0 * passing, leave=not passing, unit_scale=passing)
                                                             # miniters=1, or tqdm's monitor would compare the two clocks
    bar._time = monotonic
    bar.start_t = bar.last_print_t = monotonic()
    return bar
