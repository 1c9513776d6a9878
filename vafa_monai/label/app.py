"""Robustness scoring put into a downloaded app of MONAI Label."""

from __future__ import annotations

from pathlib import Path

from vafa_monai.data.files import write_whole

__all__ = ["install_app"]

STOCK = "stock_main.py"
MAIN = f'''"""MONAI Label's monaibundle app with robustness scoring; its own main is {STOCK}."""

from pathlib import Path

from vafa_monai.label.scoring import robust_app

RobustApp = robust_app(Path(__file__).with_name("{STOCK}"))
'''


def install_app(folder: str | Path) -> bool:
    """Add robustness scoring to a folder that ``monailabel apps --download --name monaibundle`` made.

    The app's ``main.py`` becomes ``stock_main.py``; a new ``main.py`` loads it and adds to it.

    Args:
        folder: the app.

    Returns:
        Whether anything was changed: an app that has the scoring is left as it is.

    Raises:
        ValueError: if the folder is not such an app.

    Example:
        >>> import tempfile
        >>> app = Path(tempfile.mkdtemp())
        >>> _ = (app / "main.py").write_text("class MyApp(MONAILabelApp): ...")
        >>> install_app(app), install_app(app), sorted(path.name for path in app.iterdir())
        (True, False, ['main.py', 'stock_main.py'])
    """
    folder = Path(folder)
    main, stock = folder / "main.py", folder / STOCK
    content = main.read_text(encoding="utf-8") if main.is_file() else ""
    if content == MAIN and stock.is_file():
        return False
    if "class MyApp(MONAILabelApp)" not in content:
        raise ValueError(f"folder must be a monaibundle app of MONAI Label, got {str(folder)!r}.")
    write_whole(stock, content)
    write_whole(main, MAIN)
    return True
