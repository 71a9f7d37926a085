"""Hugging Face's side of startup.py: one text is answered.

Runs in an environment of its own (requirements-peers.txt):

    python -m benchmarks.speed.peer_answer MODEL "A wonderful film."
"""

import json
import sys

import transformers


def main() -> int:
    model, text = sys.argv[1:]
    classify = transformers.pipeline("text-classification", model=model, device="cpu")
    print(json.dumps(classify(text, truncation=True)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
