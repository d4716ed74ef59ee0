"""What is asked: question, job, framework, precision, adapters, layout."""
