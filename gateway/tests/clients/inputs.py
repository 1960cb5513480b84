"""Sizes and keys that several suites use."""

MIB = 1024 * 1024
# What tools and gateways get wrong in keys. Each is a good key, and none of them is another's directory.
KEYS = [
    "plain.txt",
    "with space.txt",
    "plus+plus.txt",
    "a=b&c=d.txt",
    "less<more>.txt",
    "percent%20percent%.txt",
    "question?mark#hash.txt",
    "quote'\"quote.txt",
    "semi;colon:at@comma,dollar$.txt",
    "tilde~star*paren(x)[y]{z}|^`.txt",
    "deep/er/still/leaf.txt",
    "dots/..hidden/...three.txt",
    "Ünïcödé/日本語/😀.txt",
]
