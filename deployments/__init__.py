"""The flows as deployments: what runs when, how it is checked, served and tried out."""
