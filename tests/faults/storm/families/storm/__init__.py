"""Jobs that go through a storm and write down what happens to them."""
