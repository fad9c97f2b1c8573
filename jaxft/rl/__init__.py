"""Reinforcement learning on the device: environments, policies, agents, and what is learned from them."""
