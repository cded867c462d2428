"""Gradient boosting of other libraries: XGBoost, LightGBM, CatBoost.

A library's model is read from its own documented dump into the same trees as scikit-learn's (`edge_convert.trees`), and the graph is
written from these (`graph.py`). The library itself is imported only to open a model and as the judge: it says what is true of every
row that the file is verified on. One module a library; none of them is imported before a model of its kind turns up.
"""
