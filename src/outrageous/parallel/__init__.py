"""One job over several processes, with the numbers of a single one.

The loss of a step is the sum of what each process computes, and the gradient of every exchange is its adjoint: of rows
sent, the gradients of these rows sent back; of a sum over processes, the sum of its gradients on all of them, which are
the same everywhere, since all make the same of it. So each process's backward pass gives its share of the gradient of
the whole loss, and a parameter that all of them have gets the sum of the shares.
"""
