"""Networks: encoders, attention, decoders, heads, and the policy made of them."""
