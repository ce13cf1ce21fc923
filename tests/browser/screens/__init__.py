"""The pages of daily work in every look, for people and for tests of what a narrow window cuts off."""
