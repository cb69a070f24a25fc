"""What handlers import as ``ts``, written anew: the same names, and as little behind them as a handler needs.

https://github.com/pytorch/serve/tree/master/ts says what each of them is there. Nothing here is imported but by way of
``ts_modules.py``, in the consumer of a model of family ``torchserve``.
"""
