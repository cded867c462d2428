"""ONNX files that other tools wrote: skl2onnx, onnxmltools, PyTorch, Keras.

The file itself, in onnxruntime, is the truth. Its nodes stay as they are; what the agent expects around them is written in front and behind: one matrix
of features in, a label and probabilities (or numbers) out.

    reading.py   bytes -> a graph that is safe to open, and what it takes
    feeding.py   rows of a table -> its inputs, as arrays and as nodes
    wiring.py    which node makes which tensor
    naming.py    what the graph itself says its labels are
    outputs.py   which outputs are asked for
    case.py      all that is known: the file, its answers for the table, what the person says
    scores.py    what its numbers are: probabilities, logits, numbers to answer
    meaning.py   what it answers, and what its labels are called
    running.py   the original file in onnxruntime
    model.py     the original as a fitted estimator: opened, and settled with a table
    proof.py     whether names fit the answers, and each row is answered by itself
    graph.py     the new graph around the old nodes
"""
