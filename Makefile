# kbert beside its peers; benchmarks/speed/README.md says what is needed.
#
#     make bench DATA=FOLDER PRESET=FOLDER [OPTIONS="--only step"]

PYTHON ?= python
PEER_PYTHON ?= venv-peers/bin/python
OPTIONS ?=

.PHONY: bench
bench:
	@test -n "$(DATA)" || { echo "DATA must be the folder in which tensorflow-datasets has prepared imdb_reviews" >&2; exit 2; }
	@test -n "$(PRESET)" || { echo "PRESET must be the folder of a keras-hub preset" >&2; exit 2; }
	$(PYTHON) -m benchmarks.speed --peer-python "$(PEER_PYTHON)" --data-dir "$(DATA)" --preset "$(PRESET)" $(OPTIONS)
