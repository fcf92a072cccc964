"""Several engines that share one evaluation, in processes of their own, over Ray."""
