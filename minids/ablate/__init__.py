"""One mechanism taken out, over seeds: questions, their runs, the card."""
