# Everything a newcomer needs: `make demo` and `make test`, each on a fresh machine in one command.
PYTHON ?= python3
VENV ?= .venv
VENV_OLDEST ?= .venv-oldest
PIP_FLAGS ?= --quiet --disable-pip-version-check
# What is never imported need not be compiled.
INSTALL = -m pip install $(PIP_FLAGS) --no-compile
# Tests and demo use models made on the spot: nothing is downloaded but Python packages.
export HF_HUB_OFFLINE = 1
export TOKENIZERS_PARALLELISM = false
# Several processes share the cores: a thread that waits for another must not keep one busy, or a training takes many
# times as long beside another one.
export OMP_WAIT_POLICY = PASSIVE

# Two processes; one that has nothing left takes tests from the other, as some last a hundred times longer than most.
WORKERS ?= -n 2 --dist worksteal
# What another release of transformers can break: the rest (drawing, XMP, readers, making bundled models) does not touch it,
# nor do some files beside what it can break. A new file is taken, until it is found to belong to these.
NEAR_TRANSFORMERS = tests/model tests/training tests/evaluation tests/test_*.py
FAR_FROM_TRANSFORMERS = $(wildcard \
	$(patsubst %,tests/model/test_%.py,colour_profiles image_decoding losses optimal_transport png_chunks suggestions) \
	$(patsubst %,tests/evaluation/test_%.py,metric_modules pointing ranking) \
	$(patsubst %,tests/test_%.py,arrows atomic fonts matching_paths option_types text_files visualize))

# Where `make ram-tiny` finds the parts of scenes, and keeps what it makes.
SCENES ?= ../shared/scenes
RUN ?= runs/ram-tiny

# The same of `make ram-photo`, for photographs: all of them, or with SOURCES=open those under CC0, MIT and CC BY alone,
# which show one thing each. That model does not take the place of the bundled one, unless PHOTO_BUNDLE says so.
PHOTOS ?= ../shared/photos
SOURCES ?= all
ifeq ($(SOURCES),all)
PHOTO_RUN ?= runs/ram-photo
PHOTO_BUNDLE ?= ram_hf/bundled/ram-photo
PHOTO_FILES = $(sort $(wildcard $(PHOTOS)/train-*.parquet))
PHOTO_CLIP = configs/ram_photo/clip.yaml
MULTI_LABELS = $(PHOTOS)/train-coco.parquet
else ifeq ($(SOURCES),open)
PHOTO_RUN ?= runs/ram-photo-open
PHOTO_BUNDLE ?= $(PHOTO_RUN)/bundle
PHOTO_FILES = $(PHOTOS)/train-open.parquet
PHOTO_CLIP = configs/ram_photo/clip_open.yaml
MULTI_LABELS = $(PHOTOS)/train-open.parquet --all-labels
else
$(error SOURCES is 'all' or 'open', not '$(SOURCES)')
endif

.PHONY: help demo test test-fast test-oldest lint format benchmark mutants ram-tiny ram-photo pictures clean

help:
	@echo "make demo         set up and tag the example pictures"
	@echo "make test         set up, lint, check types and run every test"
	@echo "make test-fast    the same without the tests marked slow"
	@echo "make test-oldest  the tests near transformers that are not slow, on its oldest supported release"
	@echo "make mutants      change the code in small ways and count what the tests notice (an hour; goes on)"
	@echo "make benchmark    parity table and speed of the model (minutes)"
	@echo "make ram-tiny     train the model of drawn scenes from scratch (hours; started again, it goes on)"
	@echo "make ram-photo    train the bundled model from scratch (three hours; started again, it goes on; SOURCES=open)"
	@echo "make pictures     show anew what the bundled model says, in README and notebooks (minutes)"
	@echo "make format       let Ruff rewrite the code"

# A stamp for each environment, so that it is made once and made again when its inputs change.
$(VENV)/.demo: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python $(INSTALL) -c constraints.txt torch
	$(VENV)/bin/python $(INSTALL) -c constraints.txt -e .
	touch $@

# With the source distribution of transformers, whose common tests are run against our classes (tests/common).
$(VENV)/.dev: $(VENV)/.demo
	$(VENV)/bin/python $(INSTALL) -c constraints.txt -e '.[dev]'
	$(VENV)/bin/pip download $(PIP_FLAGS) --no-deps --no-binary transformers \
		--dest $(VENV)/source-distributions $$(grep '^transformers==' constraints.txt)
	touch $@

# The oldest transformers that is supported, with the Hub client and the tokenizers that it asks for. All other packages
# are those of the first environment, linked; pip replaces a file, and never writes into one that is there.
$(VENV_OLDEST)/.test: $(VENV)/.dev
	rm -rf $(VENV_OLDEST)
	$(PYTHON) -m venv --without-pip $(VENV_OLDEST)
	cp -al $(VENV)/lib/. $(VENV_OLDEST)/lib 2>/dev/null || cp -R $(VENV)/lib/. $(VENV_OLDEST)/lib
	grep -vE '^(transformers|huggingface_hub|tokenizers)==' constraints.txt > $(VENV_OLDEST)/constraints.txt
	$(VENV_OLDEST)/bin/python $(INSTALL) -c $(VENV_OLDEST)/constraints.txt transformers==5.17.0
	$(VENV_OLDEST)/bin/python -m pip check
	touch $@

demo: $(VENV)/.demo
	rm -rf runs/demo
	$(VENV)/bin/ram-hf tag examples/pictures --labels-file examples/labels.txt --top-k 3 --overlay runs/demo/pictures
	$(VENV)/bin/ram-hf tag examples/scenes --labels-file examples/scenes/labels.txt --model examples/ram-tiny --top-k 3 \
		--overlay runs/demo/scenes
	@echo "The same pictures with their tags drawn: runs/demo"

lint: $(VENV)/.dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

test: lint
	$(VENV)/bin/pytest $(WORKERS)

test-fast: lint
	$(VENV)/bin/pytest $(WORKERS) -m "not slow"

test-oldest: $(VENV_OLDEST)/.test
	$(VENV_OLDEST)/bin/python -m pytest $(WORKERS) -m "not slow" $(NEAR_TRANSFORMERS) \
		$(addprefix --ignore=,$(FAR_FROM_TRANSFORMERS))

# Small changes to the files where a silent fault would cost most, each tried against the tests that run it.
$(VENV)/.mutants: $(VENV)/.dev
	$(VENV)/bin/python $(INSTALL) -c constraints.txt -e '.[mutants]'
	touch $@

mutants: $(VENV)/.mutants
	OMP_NUM_THREADS=1 $(VENV)/bin/mutmut run
	$(VENV)/bin/mutmut export-cicd-stats
	@cat mutants/mutmut-cicd-stats.json

benchmark: $(VENV)/.demo
	$(VENV)/bin/python benchmarks/parity.py
	$(VENV)/bin/python benchmarks/model_speed.py

# CLIP on captioned scenes of all labels, then RAM on multi-labels of the seen ones, its probabilities, and the bundle.
$(RUN)/clip/model.safetensors: | $(VENV)/.dev
	$(VENV)/bin/ram-hf pretrain clip-on-scenes --config configs/ram_tiny/clip.yaml \
		--source $(SCENES) --output_dir $(RUN)/clip

$(RUN)/scenes/report.json: | $(VENV)/.dev
	$(VENV)/bin/ram-hf scenes $(SCENES) $(RUN)/scenes --images 20000 --size 64 --seed 1 --concepts seen

$(RUN)/ram/model.safetensors: $(RUN)/clip/model.safetensors $(RUN)/scenes/report.json
	$(VENV)/bin/ram-hf train --config configs/ram_tiny/ram.yaml --model $(RUN)/clip --dataset $(RUN)/scenes \
		--seen_labels $(RUN)/scenes/labels_seen.txt --output_dir $(RUN)/ram

$(RUN)/calibration/report.json: | $(VENV)/.dev
	$(VENV)/bin/ram-hf scenes $(SCENES) $(RUN)/calibration --images 4000 --size 64 --seed 77 --concepts seen

$(RUN)/ram/calibration.json: $(RUN)/ram/model.safetensors $(RUN)/calibration/report.json
	$(VENV)/bin/ram-hf calibrate $(RUN)/ram $(RUN)/calibration --labels $(RUN)/calibration/labels_seen.txt

ram-tiny: $(RUN)/ram/calibration.json
	$(VENV)/bin/ram-hf pretrain bundle $(RUN)/ram examples/ram-tiny

$(VENV)/.pretrain: $(VENV)/.dev
	$(VENV)/bin/python $(INSTALL) -c constraints.txt -e '.[pretrain]'
	touch $@

# Photographs decoded once, what a classifier sees in them, a CLIP distilled from that, RAM on the seen labels,
# its probabilities on photographs that were held back from both, and the bundle.
$(PHOTO_RUN)/photographs/rows.parquet: | $(VENV)/.pretrain
	$(VENV)/bin/ram-hf pretrain photographs $(PHOTO_FILES) --output_dir $(PHOTO_RUN)/photographs

$(PHOTO_RUN)/teacher/.complete: $(PHOTO_RUN)/photographs/rows.parquet
	$(VENV)/bin/ram-hf pretrain teacher $(PHOTO_RUN)/photographs --output_dir $(PHOTO_RUN)/teacher
	touch $@

$(PHOTO_RUN)/clip/model.safetensors: $(PHOTO_RUN)/teacher/.complete
	$(VENV)/bin/ram-hf pretrain clip-on-photographs --config $(PHOTO_CLIP) --words $(PHOTOS) \
		--photographs $(PHOTO_RUN)/photographs --teacher $(PHOTO_RUN)/teacher --output_dir $(PHOTO_RUN)/clip

$(PHOTO_RUN)/multi-labels/labels_seen.txt: | $(VENV)/.pretrain
	$(VENV)/bin/ram-hf pretrain multi-labels $(MULTI_LABELS) --words $(PHOTOS) \
		--output_dir $(PHOTO_RUN)/multi-labels

$(PHOTO_RUN)/ram/model.safetensors: $(PHOTO_RUN)/clip/model.safetensors $(PHOTO_RUN)/multi-labels/labels_seen.txt
	$(VENV)/bin/ram-hf train --config configs/ram_photo/ram.yaml --model $(PHOTO_RUN)/clip \
		--dataset $(PHOTO_RUN)/multi-labels --seen_labels $(PHOTO_RUN)/multi-labels/labels_seen.txt \
		--output_dir $(PHOTO_RUN)/ram

$(PHOTO_RUN)/ram/calibration.json: $(PHOTO_RUN)/ram/model.safetensors $(PHOTO_RUN)/multi-labels/labels_seen.txt
	$(VENV)/bin/ram-hf calibrate $(PHOTO_RUN)/ram $(PHOTO_RUN)/multi-labels --split validation \
		--labels $(PHOTO_RUN)/multi-labels/labels_seen.txt

ram-photo: $(PHOTO_RUN)/ram/calibration.json
	$(VENV)/bin/ram-hf pretrain bundle $(PHOTO_RUN)/ram $(PHOTO_BUNDLE)

# What is shown of the bundled model, and depends on its weights: to be run when these are new.
pictures: $(VENV)/.dev
	$(VENV)/bin/python benchmarks/demo_pictures.py --draw docs/photographs.jpg
	$(VENV)/bin/python notebooks/run.py notebooks/quickstart.ipynb notebooks/your_own_labels.ipynb

format: $(VENV)/.dev
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

clean:
	rm -rf $(VENV) $(VENV_OLDEST)
