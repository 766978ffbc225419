"""Write the golden files anew; a change of theirs is a change of the wire form."""

import sys

from shared.contracts import encode
from tests.shared.golden.examples import EXAMPLES, path_of


def main() -> int:
    """Write one file a contract."""
    for example in EXAMPLES:
        path_of(type(example)).write_bytes(encode(example) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
