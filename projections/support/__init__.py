"""What read models share: tables of documents, and questions to them."""
