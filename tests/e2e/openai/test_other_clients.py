"""LangChain's and LlamaIndex's classes for OpenAI, as they are installed, and the stock client without a thread."""

from __future__ import annotations

import asyncio
import warnings
from importlib import import_module
from typing import Any

import openai
import pytest

from tests.e2e.openai.conftest import Place
from tests.e2e.openai.test_embeddings import expected

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def quietly(module: str) -> Any:
    """Import what imports what is deprecated; only here, since it takes seconds that no other test should wait for."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return import_module(module)


@pytest.fixture(scope="module")
def base(place: Place) -> dict[str, Any]:
    """Where the API is."""
    return {"base_url": f"{place.stack.url}/v1", "api_key": "none"}


def test_langchain_embeds_a_thousand_texts_in_one_request(place: Place, base: dict[str, Any]) -> None:
    texts = [f"word {n}" for n in range(1000)]
    # Otherwise it sends tokens of OpenAI's tokenizer, which it fetches from the network.
    model = quietly("langchain_openai").OpenAIEmbeddings(model=place.letters, check_embedding_ctx_length=False, **base)
    found = model.embed_documents(texts)
    assert len(found) == 1000
    assert found[7] == pytest.approx(expected("word 7"), abs=1e-6)
    assert model.embed_query("a cat") == pytest.approx(expected("a cat"), abs=1e-6)


def test_langchain_chats(place: Place, base: dict[str, Any]) -> None:
    model = quietly("langchain_openai").ChatOpenAI(model=place.writer, temperature=0, **{**base, "max_tokens": 6})
    done = model.invoke([("system", "Repeat."), ("user", "again ")])
    assert (done.content, done.response_metadata["finish_reason"]) == ("again ", "length")
    assert done.usage_metadata is not None and done.usage_metadata["output_tokens"] == 6
    assert "".join(str(chunk.content) for chunk in model.stream("again ")) == "again "


def test_llama_index(place: Place, base: dict[str, Any]) -> None:
    where = {"api_base": base["base_url"], "api_key": "none"}
    model = quietly("llama_index.embeddings.openai").OpenAIEmbedding(model_name=place.letters, **where)
    assert model.get_text_embedding("a cat") == pytest.approx(expected("a cat"), abs=1e-6)
    assert len(model.get_text_embedding_batch(["a", "b", "c"])) == 3
    writer = quietly("llama_index.llms.openai").OpenAI(model=place.writer, temperature=0, max_tokens=6, **where)
    writer = _with_context(writer)
    message = quietly("llama_index.core.llms").ChatMessage(role="user", content="again ")
    assert writer.chat([message]).message.content == "again "
    parts = list(writer.stream_chat([message]))
    assert parts[-1].message.content == "again " and len(parts) > 1


def _with_context(writer: Any) -> Any:
    """It knows the contexts of OpenAI's own models only."""
    from llama_index.core.llms import LLMMetadata

    class Known(type(writer)):  # type: ignore[misc]
        @property
        def metadata(self) -> LLMMetadata:
            return LLMMetadata(context_window=4096, is_chat_model=True, model_name=self.model)

    return Known(**writer.dict() | {"api_key": "none"})


def test_the_async_client(place: Place, base: dict[str, Any]) -> None:
    async def main() -> None:
        async with openai.AsyncOpenAI(max_retries=0, **base) as client:
            stream = await client.chat.completions.create(
                model=place.writer,
                messages=[{"role": "user", "content": "again "}],
                max_tokens=6,
                temperature=0,
                stream=True,
            )
            text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
            assert text == "again "
            many = await asyncio.gather(
                *(client.embeddings.create(model=place.letters, input=str(n)) for n in range(20))
            )
            assert len(many) == 20

    asyncio.run(main())
