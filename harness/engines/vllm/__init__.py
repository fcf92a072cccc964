"""The engines ``vllm`` and ``vllm-compiled``; what runs inside vLLM is ``harness.integrations.vllm_plugin``."""
