"""What a stage costs on AWS: the Stage says what there is, prices.toml what it costs and what use is assumed."""
