# AudioNet's commands. `make` alone lists them; everything installs into .venv on first use.
PYTHON ?= python3
VENV ?= .venv
LOWEST := $(VENV)-lowest
NEWEST := $(VENV)-newest
BIN := $(VENV)/bin
RUN := $(BIN)/python
SAMPLES := tf_files/sample_audio
DEMO := tf_files/demo
ARGS ?=
# Tests of a file share what they prepare, so they run in one process.
TESTERS := -n auto --dist loadfile
# An experiment of its own: make data PROJECT=birds
PROJECT ?=
export AUDIONET_PROJECT := $(PROJECT)
FILES := tf_files$(if $(PROJECT),/projects/$(PROJECT))
BACKBONE ?= inception_v3_speech
# Through the environment and unexpanded: a clip's name may hold quotes, dollars and spaces.
override export CLIP := $(value CLIP)

.DEFAULT_GOAL := help
.PHONY: help demo dataset data gallery retrain evaluate probe tensorboard label discover serve test test-lowest test-newest \
    test-pythons check docs audit licences format release bench benchmark clean

help: ## list the targets
	@echo "AudioNet: who is speaking, from images of sound"
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "Flags go in ARGS: make data ARGS='--chunk_seconds 2'"
	@echo "Two experiments side by side: make data PROJECT=birds"

$(VENV)/.runs: pyproject.toml requirements.txt constraints.txt
	@echo "Setting up $(VENV) (once, some minutes) ..."
	@test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	@$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.txt -c constraints.txt
	@touch $@

$(VENV)/.tests: pyproject.toml requirements-dev.txt constraints.txt $(VENV)/.runs
	@echo "Adding the test tools to $(VENV) ..."
	@$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt -c constraints.txt
	@touch $@

demo: $(VENV)/.runs ## the whole way on the bundled voices: images, training, and labels for unseen clips
	@echo "== 1 of 3: spectrogram images of three recordings of each voice (the fourth is kept for the end)"
	@rm -rf $(DEMO)/data_audio
	@for voice in $(SAMPLES)/*/; do \
	    folder="$(DEMO)/data_audio/$$(basename "$$voice")"; mkdir -p "$$folder"; \
	    for file in "$$voice"*.mp3; do case "$$file" in */unseen.mp3) ;; *) cp -p "$$file" "$$folder";; esac; done; \
	done
	@$(RUN) scripts/data_maker.py --audio_dir $(DEMO)/data_audio --wav_dir $(DEMO)/data_wav --image_dir $(DEMO)/data_image
	@echo
	@echo "== 2 of 3: a new top layer on the bundled Inception-v3"
	@$(RUN) scripts/retrain.py --image_dir $(DEMO)/data_image --bottleneck_dir $(DEMO)/bottlenecks \
	    --checkpoint_dir $(DEMO)/checkpoints --summaries_dir $(DEMO)/training_summaries --output_graph $(DEMO)/retrained_graph.tflite \
	    --output_labels $(DEMO)/retrained_labels.txt
	@echo
	@echo "== 3 of 3: whose voice is this? (recordings that took no part in training)"
	@$(RUN) scripts/label_image.py --graph $(DEMO)/retrained_graph.tflite --top_k 3 $(SAMPLES)/*/unseen.mp3
	@echo
	@echo "Your own recordings: put MP3, WAV, FLAC or OGG files into one folder per speaker,"
	@echo "  tf_files/data_audio/ann/*.mp3  tf_files/data_audio/bob/*.mp3  ..."
	@echo "three recordings or more of each, then type"
	@echo "  make data"
	@echo "  make retrain"
	@echo "  make evaluate"
	@echo "  make label CLIP=some_clip.mp3"
	@echo "or ask in the browser: make serve  (these voices: make serve ARGS='--graph $(DEMO)/retrained_graph.tflite')"

dataset: $(VENV)/.runs ## fetch a public dataset: make dataset NAME=fsdd; without a name, list all
	@$(BIN)/audionet dataset $(if $(NAME),"$(NAME)") $(ARGS)

data: $(VENV)/.runs ## recordings in tf_files/data_audio/<label>/ to WAV chunks and spectrogram images
	@$(RUN) scripts/data_maker.py $(ARGS)

gallery: $(VENV)/.runs ## the same, and a contact sheet of each label's images in tf_files/gallery/
	@$(RUN) scripts/data_maker.py --gallery $(ARGS)

retrain: $(VENV)/.runs ## train a new top layer on the images and test it
	@$(RUN) scripts/retrain.py $(ARGS)

evaluate: $(VENV)/.runs ## hold the model against recordings it has not heard; writes tf_files/report/report.html
	@$(RUN) scripts/evaluate.py $(ARGS)

probe: $(VENV)/.runs ## compare frozen backbones on real recordings: make probe BACKBONE='inception_v3_speech random' DATA=folder
	@test -n "$(DATA)" || { echo "name a folder of recordings: make probe DATA=folder" >&2; exit 2; }
	@$(RUN) scripts/probe.py $(addprefix --backbone=,$(BACKBONE)) --data_dir="$(DATA)" $(ARGS)

tensorboard: $(VENV)/.runs ## curves, confusions and bottlenecks of every training, in the browser
	@$(BIN)/tensorboard --logdir $(FILES)/training_summaries $(ARGS)

label: $(VENV)/.runs ## say who is heard: make label CLIP=clip.wav
	@test -n "$$CLIP" || { echo "name a clip: make label CLIP=clip.wav" >&2; exit 2; }
	@$(RUN) scripts/label_image.py $(ARGS) -- "$$CLIP"

discover: $(VENV)/.runs ## voices in recordings without labels: make discover DIR=folder, then make discover ARGS=--review
	@$(BIN)/audionet discover $(if $(DIR),"$(DIR)") $(ARGS)

serve: $(VENV)/.runs ## answer over HTTP, with a page: http://127.0.0.1:8000
	@$(RUN) scripts/serve.py $(ARGS)

test: $(VENV)/.tests ## run the tests, but those that take long (make test ARGS='-m slow')
	@$(RUN) -m pytest $(TESTERS) -m 'not slow' $(ARGS)

# The lowest versions of what pyproject.toml names. Without TensorFlow, which takes the longest to install and to test,
# and pyannote.metrics, which only a benchmark needs: before 4.0 every Python process loads it, and 4.0 needs NumPy 2.
$(LOWEST)/.tests: pyproject.toml $(VENV)/.tests
	@echo "Setting up $(LOWEST) ..."
	@rm -rf $(LOWEST)
	@$(BIN)/uv venv --quiet --python 3.11 $(LOWEST)
	@printf "%s; sys_platform == 'none'\n" tensorflow pyannote.metrics > $(LOWEST)/without
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(LOWEST)/bin/python --resolution lowest-direct --overrides $(LOWEST)/without \
	    --editable '.[dev]'
	@touch $@

test-lowest: $(LOWEST)/.tests ## run the tests that do without TensorFlow on the lowest versions allowed
	@$(LOWEST)/bin/python -m pytest $(TESTERS) -m 'not slow and not tensorflow' $(ARGS)

# The newest versions allowed, whatever constraints.txt says; without TensorFlow, as above.
test-newest: $(VENV)/.tests ## run the tests that do without TensorFlow on the newest versions allowed
	@rm -rf $(NEWEST)
	@$(BIN)/uv venv --quiet $(NEWEST) --python $(RUN)
	@printf "%s; sys_platform == 'none'\n" tensorflow pyannote.metrics > $(NEWEST)/without
	@$(BIN)/uv pip install --quiet --python $(NEWEST)/bin/python --upgrade --overrides $(NEWEST)/without --editable '.[dev]'
	@$(NEWEST)/bin/python -m pytest $(TESTERS) -m 'not slow and not tensorflow' $(QUICK_TESTS) $(ARGS)

# What depends on Python's version, and not on TensorFlow's; `make test` has tried the Python of $(VENV).
QUICK_TESTS := $(addprefix tests/,audio classifier cli diagnostics utils test_api.py test_architecture.py)
test-pythons: $(VENV)/.tests ## run the tests of the core on each other supported Python that this machine has
	@for python in $$(.ci/pythons | grep -v "/$$($(RUN) -c 'import sys; print("python%d.%d" % sys.version_info[:2])')$$"); do \
	    name=$(VENV)-$$(basename "$$python"); echo "== $$python"; rm -rf "$$name"; \
	    $(BIN)/uv venv --quiet --python "$$python" "$$name" && \
	    printf "%s; sys_platform == 'none'\n" tensorflow pyannote.metrics > "$$name/without" && \
	    $(BIN)/uv pip install --quiet --python "$$name/bin/python" --overrides "$$name/without" -c constraints.txt \
	        --editable '.[dev]' && \
	    "$$name/bin/python" -m pytest $(TESTERS) -m 'not slow and not tensorflow' $(QUICK_TESTS) $(ARGS) || exit 1; \
	done

check: $(VENV)/.tests ## style and types; changes nothing
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@$(RUN) -m mypy

docs: $(VENV)/.tests ## the documentation as a site: docs/_build/html/index.html
	@$(RUN) -m sphinx -W -n --keep-going -q docs docs/_build/html
	@echo "Open docs/_build/html/index.html"

audit: $(VENV)/.tests ## look up known vulnerabilities of the versions in constraints.txt; needs the network
	@PATH="$(abspath $(BIN)):$$PATH" $(RUN) .ci/audit

licences: $(VENV)/.tests ## write docs/licences.md, the licences of all packages that are installed
	@$(RUN) -m tests.support.licences > docs/licences.new && mv docs/licences.new docs/licences.md

release: $(VENV)/.tests ## build wheel, sdist, SBOM and checksums in dist/; docs/releasing.md says how to go on
	@PATH="$(abspath $(BIN)):$$PATH" .ci/release

format: $(VENV)/.tests ## put the code into the project's style
	@$(RUN) -m ruff check --fix .
	@$(RUN) -m ruff format .

bench: $(VENV)/.tests ## measure speed and quality; DATA=folder with fsdd/ adds real voices
	@for bench in tests/benchmarks/bench_*.py; do echo "== $$bench"; $(RUN) "$$bench" $(if $(DATA),--data "$(DATA)"); done

benchmark: $(VENV)/.tests ## compare with what else one could take: make benchmark DATA=folder, or DATA=fsdd DATASET=fsdd BY=speaker
	@$(RUN) tests/benchmarks/benchmark.py $(if $(DATA),--data "$(DATA)") $(if $(DATASET),--dataset "$(DATASET)") \
	    $(if $(BY),--by "$(BY)") $(ARGS)

clean: ## remove what data, retrain and the demo made; recordings and downloaded backbones stay
	@rm -rf $(DEMO) $(addprefix $(FILES)/,data_wav data_image gallery bottlenecks training_summaries checkpoints \
	    models/converted report timelines retrained_*)
