"""The selective scan of Mamba with its own backward pass, and its installation under transformers' model.

transformers' version for machines without `mamba-ssm` is a loop whose gradient is worse than quadratic in the
length; this one needs time and memory in proportion to it. Source: "Mamba: Linear-Time Sequence Modeling with
Selective State Spaces", arXiv 2312.00752, section 3.2 and algorithm 2.

    here              paper       shape       meaning
    hidden_states, x  x           [B, D, L]   what goes in, after the convolution
    dt                            [B, D, L]   step size before bias and softplus
    delta             Δ           [B, D, L]   step size: softplus(dt + delta_bias)
    A                 A           [D, N]      rates, negative in a trained model
    B, C              B, C        [B, N, L]   what enters the state, what is read from it; both selective
    D                 D           [D]         skip connection
    z                             [B, D, L]   gate: the output is multiplied by silu(z) (figure 3)
    decay             exp(ΔA)     [B, D, N]   what is left of the state after a step (equation 4)
    inflow            Δ x         [B, D]      times B: what a step adds (equation 4 with B's first-order form)
    state, h          h           [B, D, N]   h_t = decay_t h_(t-1) + inflow_t B_t;  y_t = C_t h_t + D x_t

B rows, L tokens, D channels, N states a channel (the letters of the tensors B and D too, as in the paper).
"""

from mark.models.scan.installing import install, installed, transformers_scan
from mark.models.scan.selective import selective_scan

__all__ = ["install", "installed", "selective_scan", "transformers_scan"]
