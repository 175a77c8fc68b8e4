"""From rows to an adapter: training in processes of its own, resumed after any end."""
