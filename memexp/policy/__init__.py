"""The policy: observation encoder, memory stack, actor and critic heads. `memexp.policy.model` holds the module."""
