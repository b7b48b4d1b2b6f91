"""One file per method, in the order of its paper. Nothing here knows Gradio.

Shape alphabet used in every comment: `B` batch, `N` patch tokens, `M` kept patch tokens, `D` width, `L` layers, `h`
heads, `g` patches along one side (N = g*g), `p` pixels along one side of a patch, `H W` pixels, `K` prototypes, `T`
text tokens.
"""
