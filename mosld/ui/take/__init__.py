"""The room Take away: a run as files, link, adapters, notebook and replay."""
