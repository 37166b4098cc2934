"""Redis in its larger forms, made of processes of this machine: TLS, sentinels, a cluster."""
