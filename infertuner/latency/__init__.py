"""How long it takes: latency models, profiles, fitting, and the hardware they are measured on."""
