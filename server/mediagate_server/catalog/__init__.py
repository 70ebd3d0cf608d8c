"""What we sell: models as data, prices, aliases; a request becomes a Plan."""
