"""What happens in Calendly, as Prefect events: names, ids, labels, payloads, and how Prefect gets them."""
