"""Speed, measured side by side: each file is one comparison and the process that runs its arms."""
