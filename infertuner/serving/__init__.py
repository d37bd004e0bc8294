"""Who answers: requests, routers, batchers, GPUs and the simulation. The only room that knows SimPy."""
