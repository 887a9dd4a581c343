"""Small transformers models of four families, made from their config classes."""

import torch
from transformers import (
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2Model,
    LlamaConfig,
    LlamaModel,
    T5Config,
    T5Model,
)


def bert(layers=4):
    return BertModel(BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=layers, num_attention_heads=2, intermediate_size=32)).eval()


def llama():
    return LlamaModel(
        LlamaConfig(vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=24)
    ).eval()


def gpt2():
    return GPT2Model(GPT2Config(vocab_size=50, n_embd=16, n_layer=2, n_head=2, n_positions=32)).eval()


def t5():
    return T5Model(T5Config(vocab_size=50, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2)).eval()


FAMILIES = {"bert": bert, "llama": llama, "gpt2": gpt2, "t5": t5}


def run(model):
    """The last hidden state on a fixed batch with padding."""
    ids = torch.arange(24).view(3, 8) + 1
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    extra = {"decoder_input_ids": ids[:, :6]} if model.config.is_encoder_decoder else {}
    return model(input_ids=ids, attention_mask=mask, **extra).last_hidden_state
