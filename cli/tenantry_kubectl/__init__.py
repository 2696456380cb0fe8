"""``kubectl tenant``: a plugin that shows and handles Tenants. Reads with a kubeconfig, as kubectl itself."""
