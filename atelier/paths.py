"""Every path of a studio, relative to its root: the folder with dvc.yaml and params.yaml."""

from pathlib import Path

# in git
PARAMS = Path("params.yaml")
DVC_YAML = Path("dvc.yaml")
LOCK_FILE = Path("dvc.lock")  # what DVC records of each stage
METRICS = Path("metrics.json")
MODELS = Path("models")
CHAMPION_FILE = MODELS / "champion.json"

# outputs of the stages, which DVC tracks and deletes before a stage runs
DATA = Path("data")
CATALOG = DATA / "catalog.parquet"
COVERAGE = DATA / "catalog.json"
SHARDS = DATA / "images"
DOWNLOADS = DATA / "downloads.parquet"
DATASET = DATA / "dataset"
MODEL = DATA / "model"
GENERATOR = MODEL / "generator.safetensors"
DISCRIMINATOR = MODEL / "discriminator.safetensors"
TRAINING = DATA / "training"
EVALUATION = DATA / "evaluation"
ARTWORKS = DATA / "artworks"
CONTACT_SHEET = DATA / "contact_sheet.png"
UPSCALER_MODEL = DATA / "upscaler"
UPSCALER = UPSCALER_MODEL / "upscaler.safetensors"
PRINTS = DATA / "prints"
PAGE = DATA / "page"
INDEX = PAGE / "index.html"
EXPLORER = PAGE / "explore.html"

# in neither: what outlives DVC's deletion of outputs
STATE = Path(".atelier")  # <stage>/ has the resumable state of a stage
ARRIVALS = STATE / "images"  # downloaded pictures, from run to run
PROGRESS = STATE / "progress"  # <stage>.json: how far the stage is
EXECUTED = STATE / "executed"  # <stage>.json: a stage ran and succeeded, instead of coming from DVC's cache
FAILED = STATE / "failed"  # <stage>.json: why a stage failed
LOCK_FILE_COPY = STATE / "dvc.lock"  # made when a stage begins
LOCK_FILE_DAMAGED = STATE / "dvc.lock.damaged"
LISTS = STATE / "objects/lists"  # DVC's lists of folders' files, fetched without the files
HOME = STATE / "home"  # of a user who has none
LAST_NIGHT = STATE / "last_night.json"
NIGHT = STATE / "nightly"  # the report of the night at work, in its clone
STUDIO_ID = STATE / "studio.json"  # distinguishes this studio from others of a Prefect server
EXPORTED = STATE / "export/generator.onnx"  # by `atelier export`
PAGE_TIMES = STATE / "page/times.js"  # how long each stage took; data/page/index.html reads it
EXPLORATIONS = STATE / "explore"
LEDGER = STATE / "ledger.sqlite"
REPRODUCE = STATE / "reproduce"  # work in progress of `atelier reproduce`
REPRODUCED = STATE / "reproduced"  # pictures that came out differently
SHOWN = STATE / "show"  # by `atelier show`
UNPACKED = STATE / "unpacked"
PAINTED = STATE / "painted"
PROJECTED = STATE / "projected"
WALKS = STATE / "walks"

PREFECT_HOME = Path(".prefect")
