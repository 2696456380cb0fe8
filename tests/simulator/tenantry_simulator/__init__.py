"""A simulator of an OpenAI-shaped upstream, for tests, demo and benches. It generates nothing and bills nobody."""
