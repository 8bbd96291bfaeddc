"""Where the folders shipped beside the code are: `prompts` and `alembic`.

In a checkout (and so in an editable install) they stand beside the package; a wheel carries them
inside it, under `_data`, where they cannot meet another distribution's folder of the same name.
"""

from pathlib import Path

from tpo_graph.errors import ConfigurationError

_PACKAGE = Path(__file__).resolve().parents[1]


def data_folder(name: str) -> Path:
    """The folder `name`, of a wheel or of a checkout."""
    # The wheel's own first: beside an installed package, "alembic" is the library of that name.
    for folder in (_PACKAGE / "_data" / name, _PACKAGE.parent / name):
        if folder.is_dir():
            return folder
    raise ConfigurationError(
        f"the folder {name!r} is missing from this installation of tpo_graph ({_PACKAGE}). "
        "Install it again from its wheel or from a whole checkout."
    )
